"""Functions of MCP servers: an administrator registers a server, and its tools become functions with its name before
theirs. Their list is kept in rows (models.McpServer), so that nobody asks a server to know what there is.

    https://modelcontextprotocol.io/specification
"""
