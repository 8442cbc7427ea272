"""What scripts of one kind share: their flags, the data they make, the models they train and how those are judged."""
