"""The functions that come with AgentSite. A module dropped in here is discovered; see docs/adding-a-function.md."""
