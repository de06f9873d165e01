module example.org/thirdparty

go 1.26.0

require example.com/presence v0.0.0

replace example.com/presence => ../../../../..
