"""AgentSite put together: settings, addresses, processes. Nobody imports this package but its own modules."""
