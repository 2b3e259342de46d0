-- Run once, when the volume is new: MLflow keeps its tables apart from the deck's.
CREATE DATABASE mlflow;
