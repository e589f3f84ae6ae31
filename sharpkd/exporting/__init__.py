"""A trained net as a file that needs no torch, in three precisions, kept if it is as good."""
