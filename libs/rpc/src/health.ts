/**
 * grpc.health.v1.Health, so that probes and load balancers know it. Its two messages have one field each and are coded
 * by hand: the service is not part of this system's protos.
 */
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import type { ServerStreamHandler, ServerStreamMethod, UnaryHandler, UnaryMethod } from "./types.ts";

/** ServingStatus of the health protocol. */
export const servingStatus = { SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 } as const;

/** HealthCheckRequest: a service's full name, or "" for the whole server. */
export interface HealthRequest {
  readonly service: string;
}

/** HealthCheckResponse. */
export interface HealthResponse {
  readonly status: number;
}

const requestCodec = {
  requestSerialize: ({ service }: HealthRequest): Buffer =>
    Buffer.from(service === "" ? [] : new BinaryWriter().uint32(10).string(service).finish()),
  requestDeserialize: (bytes: Buffer): HealthRequest => {
    const reader = new BinaryReader(bytes);
    let service = "";
    while (reader.pos < reader.len) {
      const [number, wireType] = reader.tag();
      if (number === 1) service = reader.string();
      else reader.skip(wireType);
    }
    return { service };
  },
};

const responseCodec = {
  responseSerialize: ({ status }: HealthResponse): Buffer =>
    Buffer.from(new BinaryWriter().uint32(8).int32(status).finish()),
  responseDeserialize: (bytes: Buffer): HealthResponse => {
    const reader = new BinaryReader(bytes);
    let status = 0;
    while (reader.pos < reader.len) {
      const [number, wireType] = reader.tag();
      if (number === 1) status = reader.int32();
      else reader.skip(wireType);
    }
    return { status };
  },
};

/** Health/Check. */
export const healthCheck: UnaryMethod<HealthRequest, HealthResponse> = {
  path: "/grpc.health.v1.Health/Check",
  requestStream: false,
  responseStream: false,
  ...requestCodec,
  ...responseCodec,
};

/** Health/Watch. */
export const healthWatch: ServerStreamMethod<HealthRequest, HealthResponse> = {
  path: "/grpc.health.v1.Health/Watch",
  requestStream: false,
  responseStream: true,
  ...requestCodec,
  ...responseCodec,
};

/** The state behind the health service. All services of a server share it. */
export class Health {
  readonly #services = new Set<string>([""]);
  readonly #watchers = new Set<() => void>();
  #isServing = false;

  /** Makes a service's name known. */
  add(service: string): void {
    this.#services.add(service);
  }

  setServing(isServing: boolean): void {
    if (this.#isServing === isServing) return;
    this.#isServing = isServing;
    for (const wake of this.#watchers) wake();
  }

  /** Answers Check. A service that is not here is SERVICE_UNKNOWN. */
  readonly check: UnaryHandler<HealthRequest, HealthResponse> = (request) =>
    Promise.resolve({ status: this.#statusOf(request.service) });

  /** Answers Watch: the state now and at every change, until the caller goes. */
  readonly watch: ServerStreamHandler<HealthRequest, HealthResponse> = async (request, stream, context) => {
    while (!context.signal.aborted) {
      if (!stream.write({ status: this.#statusOf(request.service) })) await stream.whenWritable();
      await this.#changed(context.signal);
    }
  };

  #statusOf(service: string): number {
    if (!this.#services.has(service)) return servingStatus.SERVICE_UNKNOWN;
    return this.#isServing ? servingStatus.SERVING : servingStatus.NOT_SERVING;
  }

  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#watchers.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      this.#watchers.add(wake);
      signal.addEventListener("abort", wake, { once: true });
    });
  }
}
