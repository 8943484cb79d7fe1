"""What a model does on images: accuracy, predictions, gradients, the inputs of its layers, and comparing two models."""
