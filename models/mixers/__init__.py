"""Token mixers: attention of several kinds, recurrent states, linear layers."""
