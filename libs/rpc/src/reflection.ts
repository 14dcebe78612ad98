/**
 * Server reflection (grpc.reflection.v1 and v1alpha), so that `buf curl` and grpcurl work without proto files. The npm
 * package loses imports and breaks on maps (ecosystem.md §3.4); here the raw file descriptors of our own descriptor
 * set are passed on as they are. The few messages are coded by hand: both versions are the same on the wire.
 */
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { AppError } from "@millrace/base";
import type { Descriptors, ProtoFile } from "./descriptors.ts";
import type { DuplexHandler, DuplexMethod } from "./types.ts";

/** A question of the reflection protocol, with the bytes to echo. */
type Question =
  | { readonly kind: "fileByName" | "fileBySymbol" | "extensionNumbers"; readonly name: string }
  | { readonly kind: "fileByExtension"; readonly name: string; readonly number: number }
  | { readonly kind: "listServices" };

interface ReflectionRequest {
  readonly bytes: Uint8Array;
  readonly host: string;
  readonly question: Question | undefined;
}

/** Field numbers of ServerReflectionResponse. */
const answerField = { files: 4, extensionNumbers: 5, services: 6, error: 7 } as const;
const notFoundCode = 5;
const invalidCode = 3;

/** Questions answered on one stream before it is ended: a caller asks a few dozen. */
const questionsMax = 10_000;

/** The method under one of its names. */
export function reflectionMethod(version: "v1" | "v1alpha"): DuplexMethod<ReflectionRequest, Uint8Array> {
  return {
    path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
    requestStream: true,
    responseStream: true,
    requestSerialize: (request) => Buffer.from(request.bytes),
    requestDeserialize: decodeRequest,
    responseSerialize: (bytes) => Buffer.from(bytes),
    responseDeserialize: (bytes) => bytes,
  };
}

/** Answers questions about the descriptors; `services` are the full names this server has. */
export function reflectionHandler(
  descriptors: Descriptors,
  services: () => readonly string[],
): DuplexHandler<ReflectionRequest, Uint8Array> {
  return async (stream) => {
    // What the caller knows already is not sent again on the same stream.
    const sent = new Set<string>();
    let questions = 0;
    await stream.receive((request) => {
      if (++questions > questionsMax)
        throw new AppError("LIMIT_EXCEEDED", "too many reflection questions on one stream");
      const canTakeMore = stream.write(answer(request, descriptors, services(), sent));
      if (canTakeMore) return;
      stream.pause();
      stream.whenWritable().then(
        () => stream.resume(),
        () => undefined,
      );
    });
  };
}

function answer(
  request: ReflectionRequest,
  descriptors: Descriptors,
  services: readonly string[],
  sent: Set<string>,
): Uint8Array {
  const { question } = request;
  const response = new BinaryWriter();
  if (request.host !== "") response.uint32(tag(1)).string(request.host);
  response.uint32(tag(2)).bytes(request.bytes);
  const add = (number: number, message: BinaryWriter): Uint8Array =>
    response.uint32(tag(number)).bytes(message.finish()).finish();
  if (question === undefined)
    return add(answerField.error, errorMessage(invalidCode, "the question is not known here"));
  if (question.kind === "listServices") {
    const list = new BinaryWriter();
    for (const name of services)
      list.uint32(tag(1)).bytes(new BinaryWriter().uint32(tag(1)).string(name).finish());
    return add(answerField.services, list);
  }
  if (question.kind === "extensionNumbers") {
    const numbers = descriptors.extensions.get(question.name);
    if (numbers === undefined && !descriptors.symbols.has(question.name)) {
      return add(answerField.error, errorMessage(notFoundCode, `${question.name} is not known here`));
    }
    const message = new BinaryWriter().uint32(tag(1)).string(question.name);
    for (const number of numbers?.keys() ?? []) message.uint32(16).int32(number);
    return add(answerField.extensionNumbers, message);
  }
  const file = findFile(question, descriptors);
  if (file === undefined)
    return add(answerField.error, errorMessage(notFoundCode, `${question.name} is not known here`));
  const files = new BinaryWriter();
  for (const bytes of withDependencies(file, descriptors, sent)) files.uint32(tag(1)).bytes(bytes);
  return add(answerField.files, files);
}

function findFile(question: Question, descriptors: Descriptors): ProtoFile | undefined {
  switch (question.kind) {
    case "fileByName":
      return descriptors.files.get(question.name);
    case "fileBySymbol":
      return descriptors.symbols.get(question.name);
    case "fileByExtension":
      return descriptors.extensions.get(question.name)?.get(question.number);
    default:
      return undefined;
  }
}

/** The file and what it imports, in whole, without what was sent before; the file itself always. */
function withDependencies(
  file: ProtoFile,
  descriptors: Descriptors,
  sent: Set<string>,
): readonly Uint8Array[] {
  const found: Uint8Array[] = [file.bytes];
  sent.add(file.name);
  const pending = [...file.dependencies];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const dependency = descriptors.files.get(name);
    if (dependency === undefined || sent.has(name)) continue;
    sent.add(name);
    found.push(dependency.bytes);
    pending.push(...dependency.dependencies);
  }
  return found;
}

function errorMessage(code: number, text: string): BinaryWriter {
  return new BinaryWriter().uint32(8).int32(code).uint32(tag(2)).string(text);
}

/** Tag of a length-delimited field. */
function tag(number: number): number {
  return (number << 3) | 2;
}

function decodeRequest(bytes: Buffer): ReflectionRequest {
  const reader = new BinaryReader(bytes);
  let host = "";
  let question: Question | undefined;
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    switch (number) {
      case 1:
        host = reader.string();
        break;
      case 3:
        question = { kind: "fileByName", name: reader.string() };
        break;
      case 4:
        question = { kind: "fileBySymbol", name: reader.string() };
        break;
      case 5:
        question = decodeExtension(reader.bytes());
        break;
      case 6:
        question = { kind: "extensionNumbers", name: reader.string() };
        break;
      case 7:
        reader.skip(wireType);
        question = { kind: "listServices" };
        break;
      default:
        reader.skip(wireType);
    }
  }
  return { bytes, host, question };
}

function decodeExtension(bytes: Uint8Array): Question {
  const reader = new BinaryReader(bytes);
  let name = "";
  let number = 0;
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1) name = reader.string();
    else if (field === 2) number = reader.int32();
    else reader.skip(wireType);
  }
  return { kind: "fileByExtension", name, number };
}
