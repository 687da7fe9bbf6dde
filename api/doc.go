// Package api is what people and programs talk to: REST with its OpenAPI
// document, live streams by server-sent events, sign-in, Prometheus metrics and
// a few plain pages, on every node. It owns URLs, their answers, and which node
// answers; it owns no state: reads come from the replica, writes are proposed,
// logs and bundles are files that others keep.
//
// Invariant: nothing is answered without a token or a session but /healthz,
// /api/v1/health, /login, the style sheet, and the webhooks, which are signed.
// What is not in that list (guard.go) is closed, also when it was added later.
//
// Start reading at Server.routes (server.go): it has every URL. Who answers is in
// route.go, what others must bring in deps.go.
package api
