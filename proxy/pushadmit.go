package proxy

import (
	"context"
	"net/http"
)

// admitted has the upstream of a push begin it before the first byte is taken or
// room is made for it: that a caller may pull there is no reason to keep what it
// sends, and the upstream alone knows who may push. Where it does not answer nothing
// is taken either: a later break of what it has begun is gone over. leave is called
// when the request's body was read; until then the upload's file stays open.
func (s *push) admitted(r *http.Request) (leave func(), err error) {
	if s.pusher == nil || s.u.Size() > 0 || r.ContentLength == 0 {
		s.begun = s.p.forwards.of(s.u.ID())
		return func() {}, nil
	}
	what := "push to " + s.repo.String()
	file, err := s.u.Follow(r.Context())
	if err != nil {
		return nil, s.p.uploadError(what, err)
	}
	leave = func() { _ = file.Close() } // nothing was read
	f := s.forwarding()
	select {
	case <-f.begun:
		s.begun = f
		return leave, nil
	case <-r.Context().Done():
		leave()
		return nil, context.Cause(r.Context())
	case <-f.done:
		select {
		case <-f.begun: // and given up in the same moment: the upstream let it in
			s.begun = f
			return leave, nil
		default:
		}
	}
	if f.err == nil {
		return leave, nil
	}
	leave()
	err = f.err
	if final(err) {
		return nil, s.refused(context.WithoutCancel(r.Context()), what, err)
	}
	s.u.GiveWay() // its client begins anew, most likely
	return nil, s.p.passError(what, err)
}
