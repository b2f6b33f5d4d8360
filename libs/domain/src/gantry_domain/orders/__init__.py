"""Orders as the worklist has them: their attributes, their changes, their states, questions."""
