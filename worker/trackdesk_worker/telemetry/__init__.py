"""What the product says about itself: metrics, logs, health. Nothing in here changes a job."""
