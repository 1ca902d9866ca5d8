"""Records of a run for trackers of other people: TensorBoard, MLflow, Weights & Biases."""
