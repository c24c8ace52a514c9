// Package hooks takes the notifications that upstream registries send when
// something was pushed to them: the distribution project's, Amazon ECR's by
// EventBridge, Harbor's, Docker Hub's and GitHub's package webhooks.
//
// Nothing is taken without the upstream's secret, and a 202 means that what is
// to be done is filed durably. What a notification says is only a hint: the
// upstream is asked what is there, and the rules decide.
package hooks
