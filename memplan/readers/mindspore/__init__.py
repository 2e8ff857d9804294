"""What MindSpore itself leaves or holds: text IR, actor sets, SOMAS dumps, and live cells."""
