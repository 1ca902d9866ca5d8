"""Files of images and labels, opened without trust."""
