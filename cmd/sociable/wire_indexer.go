package main

import "github.com/sociable/sociable/proxy"

// fetcher is the proxy as the indexer uses it. The indexer is made first: the
// proxy is set before the indexer runs.
type fetcher struct{ *proxy.Proxy }
