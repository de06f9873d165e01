package presence_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"example.com/presence/pkg/presence/auth"
)

// The pages of one round of GET /presence contain every staying member once and in order, while
// other members join and leave. The room has 18,000 members (3,500 with -short) on real sockets.
// 1,000 members per second leave and as many join.
func TestPagesOfALargeRoom(t *testing.T) {
	const rate = 1000
	clients, stay := sized(3_500, 18_000, 18_000), sized(2_500, 15_000, 15_000)
	server, load := startProcess(t, "direct"), startProcess(t, "load")
	load.ask(order{Do: "open", Addr: server.addr, Clients: clients, Spare: clients - stay, Until: "counted"})

	if err := load.in.Encode(order{Do: "churn", Rate: rate, Time: time.Duration(clients-stay) * time.Second / rate}); err != nil {
		t.Fatal(err)
	}
	churned := make(chan answer, 1)
	go func() { // ends with the churn or the process
		var a answer
		if err := load.out.Decode(&a); err != nil {
			a.Error = err.Error()
		}
		churned <- a
	}()
	// An admin has no cost limit.
	token := mint(t, auth.Claims{Sub: "watcher", Join: []string{"*"}, Admin: true, TTL: time.Hour})
	rounds := map[int]int{} // number of rounds by page size
	var over *answer
	for limit := 1000; over == nil || rounds[137] == 0; limit = 1137 - limit {
		seen, last := 0, ""
		for after := ""; ; {
			p := getPage(t, server.addr, token, limit, after)
			for _, m := range p.Members {
				id, n := string(m.ID), -1
				if _, err := fmt.Sscanf(id, "user-%d", &n); err != nil || id <= last {
					t.Fatalf("got member %q after %q, %v; want a greater id", id, last, err)
				}
				if n >= clients-stay && n < clients {
					seen++
				}
				last = id
			}
			if p.Users < stay || p.Connections < stay {
				t.Fatalf("got a page with %d connections of %d users, want at least %d", p.Connections, p.Users, stay)
			}
			if after = p.Next; after == "" {
				break
			}
		}
		if seen != stay {
			t.Fatalf("pages of %d: got %d staying members, want %d", limit, seen, stay)
		}
		rounds[limit]++
		select {
		case a := <-churned:
			over = &a
		default:
		}
	}
	t.Logf("%d rounds of pages of 1,000, %d of pages of 137, while %d members left and as many joined, in %v", rounds[1000], rounds[137], clients-stay, over.Elapsed)
	if over.Error != "" {
		t.Error(over.Error)
	}
}

func getPage(t *testing.T, addr, token string, limit int, after string) (p page) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/presence?limit=%d&after=%s", addr, limit, after), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&p); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET /presence: got %s, %v; want 200", response.Status, err)
	}
	return p
}
