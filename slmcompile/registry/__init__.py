"""Tables of the kinds of things there are, and how the recipe's schema is made from them."""
