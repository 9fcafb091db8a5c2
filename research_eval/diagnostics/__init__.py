"""What experts do: pure functions from records and counts to numbers, and rules about them."""
