package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retryStatus are the statuses after which the same request may well succeed.
var retryStatus = map[int]bool{
	http.StatusRequestTimeout:      true,
	http.StatusTooManyRequests:     true,
	http.StatusInternalServerError: true,
	http.StatusBadGateway:          true,
	http.StatusServiceUnavailable:  true,
	http.StatusGatewayTimeout:      true,
}

// retryable reports whether a request that failed with err is worth repeating,
// and how long the upstream wants to be left alone before.
func retryable(err error) (wait time.Duration, ok bool) {
	if is[*HeldError](err) {
		return 0, false // whoever held it back has waited as long as that is worth
	}
	if s, is := errors.AsType[*StatusError](err); is {
		return s.RetryAfter, retryStatus[s.Status] || s.expired()
	}
	// A wrong certificate won't be a right one in a moment.
	return 0, is[*UnreachableError](err) && !is[*tls.CertificateVerificationError](err)
}

// expired reports that where a redirect led a transfer to refuses it: signed
// URLs are good for a while, and the upstream makes new ones.
func (e *StatusError) expired() bool {
	return e.elsewhere && e.Op == string(opBlob) &&
		(e.Status == http.StatusBadRequest || e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
}

// retrier counts the failures of one request.
type retrier struct {
	c       *Client
	op      op
	repo    string
	failed  int // since the last success
	pausing int // the next pause's power of two, or noPause
}

// noPause lets the first repetition follow at once.
const noPause = -1

// again waits until the request may be repeated. It returns err, or why the
// caller's patience ended, where it may not.
func (r *retrier) again(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return r.c.left(context.Cause(ctx), r.op)
	}
	wait, ok := retryable(err)
	if !ok || r.failed >= r.c.opt.Retries || wait > r.c.opt.MaxBackoff {
		return err
	}
	r.failed++
	pause := max(r.pause(), wait)
	r.c.log.WarnContext(ctx, "asking upstream again", "repo", r.repo, "op", string(r.op), "pause", pause, "err", err)
	if werr := sleep(ctx, pause); werr != nil {
		return r.c.left(werr, r.op)
	}
	r.c.metrics.retries.Inc()
	return nil
}

// pause is the next pause, with the random part that keeps many clients from
// coming back all at once.
func (r *retrier) pause() time.Duration {
	n := r.pausing
	r.pausing++
	if n < 0 {
		return 0
	}
	d := r.c.opt.MaxBackoff
	if n < 30 {
		d = min(d, r.c.opt.Backoff<<n)
	}
	return d - rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// parseRetryAfter reads the header as RFC 9110 §10.2.3 has it: seconds or a
// date. Whatever else is 0.
func parseRetryAfter(h string, now time.Time) time.Duration {
	h = strings.TrimSpace(h)
	if h == "" {
		return 0
	}
	if n, err := strconv.ParseUint(h, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(h); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}
