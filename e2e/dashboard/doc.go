// Package dashboard tests the dashboard as people use it: a real Chromium clicks
// through a running proxy that has pulled, indexed and lazily served images.
//
// The browser is Debian's; playwright-core, which drives it, and axe-core, which
// looks for what keeps people with a screen reader or a keyboard out, come from npm
// (package.json). flows.test.mjs has the flows.
//
//	go test ./dashboard                                    # as in make test
//	DASHBOARD_SHOTS=$PWD/../docs/screenshots go test ...   # the pictures, too
package dashboard
