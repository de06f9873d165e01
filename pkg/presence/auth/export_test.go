package auth

// JWKSOver is JWKS with an http.RoundTripper, because testing/synctest does not support sockets.
var JWKSOver = jwks
