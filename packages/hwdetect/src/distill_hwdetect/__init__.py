"""What machine is this, and what should a language model do on it, and why."""
