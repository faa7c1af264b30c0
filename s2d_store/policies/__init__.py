"""What a model is: weights and tokenizer by their content, and the table of those known."""
