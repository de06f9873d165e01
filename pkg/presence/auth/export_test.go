package auth

// JWKSOver is JWKS that fetches by way of an http.RoundTripper, as
// testing/synctest knows no sockets.
var JWKSOver = jwks
