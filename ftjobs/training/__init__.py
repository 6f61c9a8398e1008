"""Training: the one loop, its optimizer and schedule, what is optimized, and features of a frozen encoder."""
