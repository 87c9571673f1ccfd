// Peer: Asynq, one task per sale (its id is the externalId: a second one is refused), net/http, 256 in flight.
//
//	peer enqueue N        peer worker
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
)

const kind = "deliver"

func main() {
	address, err := url.Parse(os.Getenv("BENCH_REDIS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	redis := asynq.RedisClientOpt{Addr: address.Host}
	if os.Args[1] == "enqueue" {
		count, err := strconv.Atoi(os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		enqueue(redis, count)
		return
	}
	work(redis)
}

func enqueue(redis asynq.RedisClientOpt, count int) {
	client := asynq.NewClient(redis)
	defer client.Close()
	var body map[string]any
	if err := json.Unmarshal([]byte(os.Getenv("BENCH_BODY")), &body); err != nil {
		log.Fatal(err)
	}
	for number := 0; number < count; number++ {
		id := fmt.Sprintf("order-%010d", number)
		body["externalId"] = id
		payload, _ := json.Marshal(body)
		task := asynq.NewTask(kind, payload, asynq.TaskID(id), asynq.MaxRetry(20), asynq.Timeout(10*time.Second))
		if _, err := client.Enqueue(task); err != nil {
			log.Fatal(err)
		}
	}
}

func work(redis asynq.RedisClientOpt) {
	target := os.Getenv("BENCH_URL")
	client := &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256},
	}
	server := asynq.NewServer(redis, asynq.Config{Concurrency: 256, LogLevel: asynq.WarnLevel})
	mux := asynq.NewServeMux()
	mux.HandleFunc(kind, func(ctx context.Context, task *asynq.Task) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(task.Payload()))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		read, err := io.ReadAll(answer.Body)
		if err != nil {
			return err
		}
		var reply struct {
			Cid string `json:"cid"`
		}
		if err := json.Unmarshal(read, &reply); err != nil || answer.StatusCode != http.StatusOK || reply.Cid == "" {
			return fmt.Errorf("answer %d", answer.StatusCode)
		}
		return nil
	})
	if err := server.Run(mux); err != nil {
		log.Fatal(err)
	}
}
