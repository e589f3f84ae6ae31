"""What was done to an image: its blur and its noise, estimated from the image alone, with an uncertainty."""
