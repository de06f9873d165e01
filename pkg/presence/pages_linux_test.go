package presence_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// GET /presence pages through a room of 18,000 members (3,500 with -short), on
// sockets. Most of them stay, while 1,000 per second leave and others join.
// Every member that stays is on one page of each round, once, and the pages are
// in order.
func TestPagesOfALargeRoom(t *testing.T) {
	const rate = 1000
	clients, stay := sized(3_500, 18_000, 18_000), sized(2_500, 15_000, 15_000)
	server, load := startProcess(t, "direct"), startProcess(t, "load")
	load.ask(order{Do: "open", Addr: server.addr, Clients: clients, Spare: clients - stay, Until: "counted"})

	if err := load.in.Encode(order{Do: "churn", Rate: rate, Time: time.Duration(clients-stay) * time.Second / rate}); err != nil {
		t.Fatal(err)
	}
	churned := make(chan answer, 1)
	go func() { // ends with the churn, or the process
		var a answer
		if err := load.out.Decode(&a); err != nil {
			a.Error = err.Error()
		}
		churned <- a
	}()
	token := bearer(t, "watcher")
	rounds := map[int]int{} // by the size of their pages
	var over *answer
	for limit := 1000; over == nil || rounds[137] == 0; limit = 1137 - limit {
		seen, last := 0, ""
		for after := ""; ; {
			p := getPage(t, server.addr, token, limit, after)
			for _, m := range p.Members {
				id, n := string(m.ID), -1
				if _, err := fmt.Sscanf(id, "user-%d", &n); err != nil || id <= last {
					t.Fatalf("after %q comes %q, %v", last, id, err)
				}
				if n >= clients-stay && n < clients {
					seen++
				}
				last = id
			}
			if p.Users < stay || p.Connections < stay {
				t.Fatalf("a page says that there are %d connections of %d users", p.Connections, p.Users)
			}
			if after = p.Next; after == "" {
				break
			}
		}
		if seen != stay {
			t.Fatalf("of %d who stay there are %d on pages of %d", stay, seen, limit)
		}
		rounds[limit]++
		select {
		case a := <-churned:
			over = &a
		default:
		}
	}
	t.Logf("%d rounds of pages of 1,000, %d of pages of 137, while %d members went and as many came, in %v", rounds[1000], rounds[137], clients-stay, over.Elapsed)
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
		t.Fatalf("%s, %v", response.Status, err)
	}
	return p
}
