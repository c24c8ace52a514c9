package oci

// Action is what a caller wants to do in a repository. The first three are the
// words of the distribution project's token scopes.
type Action string

// ActionPull reads manifests, blobs, tags and referrers, ActionPush adds to
// them, ActionDelete removes them. ActionAdminister is to operate the proxy
// itself: pins, purges, jobs, the dashboard.
const (
	ActionPull       Action = "pull"
	ActionPush       Action = "push"
	ActionDelete     Action = "delete"
	ActionAdminister Action = "administer"
)
