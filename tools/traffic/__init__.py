"""What a client sends to a deployment, and what it can see of the work done there."""
