"""Whether probabilities can be believed and acted on: calibration, conformal sets, decisions."""
