"""Conversations: the pages, forms and sockets through which people talk with agents."""
