"""The KV budget of a served model: the choice, what it comes to, and its pictures."""
