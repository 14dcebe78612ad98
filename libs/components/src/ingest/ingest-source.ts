/**
 * The ingest source: the door of an agent for other agents (`Transfer`, the hop) and for applications (`Append`).
 *
 * Every answer is given after the commit of the put. Listening, handshake and errors are the rpc kit's.
 */
import { AppError } from "@millrace/base";
import {
  batchBytesMax,
  type ComponentContext,
  type FlowRecord,
  type Intake,
  type PushSource,
} from "@millrace/flow";
import {
  type AppendRequest,
  type AppendResponse,
  Durability,
  IngestServiceService,
  type TransferRequest,
  type TransferResponse,
} from "@millrace/proto/ingest";
import {
  checkHandshake,
  createRpcServer,
  type Duplex,
  type ListenerOptions,
  type RpcServer,
  type ServerIdentity,
  supportedProtocol,
} from "@millrace/rpc";
import { randomId } from "@millrace/runtime";
import type { IngestConfig } from "./config.ts";
import { duplicatesTotal, possibleDuplicatesTotal } from "./telemetry.ts";
import { Transfer, type TransferCounters } from "./transfer.ts";

/** Time that calls in progress have when the source stops, ms. */
const stopGraceMs = 2000;
/** Largest message taken: the largest batch of a channel and the fields around it. */
const messageBytesMax = batchBytesMax + 4096;
/** What a sender is granted at least, bytes: with the server's limit of connections this is bounded, too. */
const creditBytesMin = 1024 * 1024;

export class IngestSource implements PushSource {
  readonly mode = "push";
  readonly #config: IngestConfig;
  readonly #context: ComponentContext;
  readonly #identity: ServerIdentity;
  readonly #counters: TransferCounters = { duplicates: 0, possibleDuplicates: 0 };
  #server: RpcServer | undefined;
  readonly #stopObserving: readonly (() => void)[];
  #streamCount = 0;
  #grantedBytes = 0;

  constructor(config: IngestConfig, context: ComponentContext) {
    this.#config = config;
    this.#context = context;
    // Agents belong to no cluster of their own: senders of any cluster are welcome.
    this.#identity = {
      clusterId: () => "",
      nodeId: context.ownerName,
      incarnation: randomId(),
      nodeEpoch: () => 0,
    };
    const { metrics } = context.telemetry;
    const labels = { source: context.name };
    this.#stopObserving = [
      metrics.observe(duplicatesTotal, () => [{ labels, value: this.#counters.duplicates }]),
      metrics.observe(possibleDuplicatesTotal, () => [{ labels, value: this.#counters.possibleDuplicates }]),
    ];
  }

  async start(intake: Intake, signal: AbortSignal): Promise<void> {
    const { telemetry } = this.#context;
    const server = createRpcServer({
      listeners: [this.#listener()],
      identity: this.#identity,
      telemetry,
      allowInsecure: this.#config.insecure,
      limits: { messageBytesMax },
    });
    server.addService(IngestServiceService, {
      transfer: (stream, context) =>
        this.#transfer(stream, intake, AbortSignal.any([signal, context.signal])),
      append: (request, context) => this.#append(request, intake, AbortSignal.any([signal, context.signal])),
    });
    await server.start();
    server.setServing(true);
    this.#server = server;
  }

  addresses(): readonly { name: string; host: string; port: number }[] {
    return (this.#server?.listeners ?? []).map(({ host, port }) => ({ name: "ingest", host, port }));
  }

  streamCount(): number {
    return this.#streamCount;
  }

  async stop(): Promise<void> {
    for (const stopObserving of this.#stopObserving) stopObserving();
    await this.#server?.stop(stopGraceMs);
  }

  async #transfer(
    stream: Duplex<TransferResponse, TransferRequest>,
    intake: Intake,
    signal: AbortSignal,
  ): Promise<void> {
    const creditBytes = this.#grant();
    this.#streamCount++;
    try {
      const transfer = new Transfer({
        stream,
        intake,
        signal,
        directoryId: this.#context.ownerId,
        counters: this.#counters,
        creditBytes,
        greet: ({ handshake }) => checkHandshake(handshake, this.#identity, supportedProtocol, creditBytes),
      });
      await transfer.serve();
    } finally {
      this.#streamCount--;
      this.#grantedBytes -= creditBytes;
    }
  }

  /** Credit of a new stream: what is left of the total, and a minimum in any case. */
  #grant(): number {
    const { creditBytes, creditBytesTotal } = this.#config;
    const granted = Math.max(
      Math.min(creditBytesMin, creditBytes),
      Math.min(creditBytes, creditBytesTotal - this.#grantedBytes),
    );
    this.#grantedBytes += granted;
    return granted;
  }

  async #append(request: AppendRequest, intake: Intake, signal: AbortSignal): Promise<AppendResponse> {
    const nowMs = this.#context.clock.nowMs();
    const records: FlowRecord[] = request.records.map(({ key, value, headers, timestampMs }) => ({
      key: key ?? null,
      value: value ?? null,
      headers: headers.map((header) => ({ key: header.key, value: header.value ?? null })),
      timestampMs: timestampMs ?? nowMs,
      ...(request.streamId === "" ? {} : { streamId: request.streamId }),
    }));
    if (records.length > 0 && (await intake.offer({ records }, { signal })) === "full") {
      throw new AppError(
        "CHANNEL_FULL",
        "the agent's channel is full; nothing was taken: send it again later",
      );
    }
    const durability = intake.durability === "fsync" ? Durability.FSYNC : Durability.VOLATILE;
    return { recordCount: records.length, durability };
  }

  #listener(): ListenerOptions {
    const { bind, port, certificateFile, keyFile, clientAuthorityFile } = this.#config;
    const listener: ListenerOptions = { name: "client", host: bind, port };
    if (certificateFile === undefined || keyFile === undefined) return listener;
    return {
      ...listener,
      tls: {
        certificateFile,
        keyFile,
        ...(clientAuthorityFile === undefined ? {} : { clientAuthorityFile }),
      },
    };
  }
}
