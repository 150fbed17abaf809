"""What gradients add to the best fusion without them: kinds of challenge, readings, candidates, figures."""
