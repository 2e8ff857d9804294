"""The timeline of a rank: events to sorted tracks, kept in a store, and questions to them."""
