"""What runs inside a sandbox. Nothing here is imported by AgentSite."""
