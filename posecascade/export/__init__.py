"""What a trained model becomes for servers and devices."""
