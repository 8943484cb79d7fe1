"""Files of the Hugging Face hub: where they are on this machine, and downloading them when asked to."""
