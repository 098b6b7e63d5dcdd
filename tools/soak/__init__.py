"""`./dev soak`: data workers under a steady mixed load for a long time, and whether anything grows meanwhile."""
