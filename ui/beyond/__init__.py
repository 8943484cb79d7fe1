"""What else a merged model is good for: unseen tasks, corrupted images."""
