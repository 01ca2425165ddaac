"""What several rooms need to keep things over time: the clocks."""
