// Package ui is what people see of a running proxy in a browser, and the API for
// programs that shows the same: both are made of the same values.
//
// Pages are whole without a script; htmx, which is embedded with everything else,
// makes them live. Nothing is loaded from elsewhere, and nothing inline is run:
// the Content-Security-Policy forbids both. Requests that change something are
// refused when another site's page sent them.
package ui
