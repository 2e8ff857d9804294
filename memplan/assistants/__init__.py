"""What assistants ask memplan: the reports of its commands, over the Model Context Protocol."""
