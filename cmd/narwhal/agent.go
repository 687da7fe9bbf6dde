package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/agent"
)

// agentConfig is what `narwhal agent` was started with.
type agentConfig struct {
	listen    string
	amqp      string
	amqpFile  string
	name      string
	protocols []string
	webhooks  webhookConfig
	log       logConfig
}

func agentCommand() *cobra.Command {
	var cfg agentConfig
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the webhook side alone, for a host that reaches only RabbitMQ",
		Long: "Run the webhook side alone: it verifies webhooks and publishes their commits to\n" +
			"RabbitMQ, for a host in front of the network that the cluster is in. It belongs to\n" +
			"no cluster and keeps nothing.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd); err != nil {
				return err
			}
			if err := cfg.complete(); err != nil {
				return usage("%w", err)
			}
			return runAgent(cmd.Context(), cfg, cfg.log.logger(os.Stderr))
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.listen, "listen", ":9797", "`host:port` of the webhooks")
	f.StringVar(&cfg.amqp, "amqp", "", "RabbitMQ, as `amqp://user:password@host:port/`; better by NARWHAL_AMQP or --amqp-file, since it holds a password")
	f.StringVar(&cfg.amqpFile, "amqp-file", "", "a `file` with the URL of --amqp")
	f.StringVar(&cfg.name, "name", "narwhal-agent", "the `name` of its connections, as RabbitMQ shows it")
	f.StringSliceVar(&cfg.protocols, "allow-protocol", []string{"https", "ssh"}, "the `protocols` that a webhook's clone URL may have")
	cfg.webhooks.flags(f)
	cfg.log.flags(f)
	return cmd
}

func (c *agentConfig) complete() error {
	if err := errors.Join(c.log.complete(), readBroker(&c.amqp, c.amqpFile), c.webhooks.complete(c.protocols)); err != nil {
		return err
	}
	if c.amqp == "" {
		return errors.New("--amqp, --amqp-file or NARWHAL_AMQP is needed: without RabbitMQ webhooks go to any node of the cluster")
	}
	return nil
}

func runAgent(ctx context.Context, cfg agentConfig, log *slog.Logger) error {
	publisher, err := agent.NewPublisher(agent.Broker{URL: cfg.amqp, Name: cfg.name}, log)
	if err != nil {
		return err
	}
	handler, err := agent.Standalone(cfg.webhooks.agent(cfg.protocols), publisher, log)
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	queue := newStage(ctx, "queue")
	queue.start("RabbitMQ", publisher.Run)
	front := newStage(ctx, "front")
	front.start("webhooks", func(ctx context.Context) error { return serveHTTP(ctx, ln, handler) })
	fmt.Fprintf(os.Stdout, "webhooks at http://%s/hooks/github\n", ln.Addr())
	return runStages(ctx, queue, front)
}

// serveHTTP serves until ctx ends and lets what is under way finish.
func serveHTTP(ctx context.Context, ln net.Listener, handler http.Handler) error {
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- srv.Shutdown(grace)
	})
	err := srv.Serve(ln)
	if !errors.Is(err, http.ErrServerClosed) {
		stop()
		return err
	}
	return <-stopped
}
