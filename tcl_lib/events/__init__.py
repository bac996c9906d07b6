"""Event cameras, from recordings to counted frames. Without torch: it runs in many processes."""
