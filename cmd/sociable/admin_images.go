package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/sociable/sociable/web"
)

// Warm brings an image to the server's store; tell hears how far it is.
func (c *adminClient) Warm(ctx context.Context, q web.WarmRequest, tell func(web.WarmEvent)) (web.WarmImage, error) {
	resp, err := c.send(ctx, http.MethodPost, "/api/v1/warm", q)
	if err != nil {
		return web.WarmImage{}, err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var e web.WarmEvent
		switch err := lines.Decode(&e); {
		case ctx.Err() != nil:
			return web.WarmImage{}, context.Cause(ctx)
		case err != nil:
			return web.WarmImage{}, fmt.Errorf("read the running server's answer: %w", err)
		case e.Error != "":
			return web.WarmImage{}, errors.New(e.Error)
		case e.Image != nil:
			return *e.Image, nil
		}
		tell(e)
	}
}
