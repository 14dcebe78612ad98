/** Configuration of the ingest source. */
import { size, z } from "@millrace/config";

/** Bytes a sender may have unanswered by default. */
const creditBytesDefault = 32 * 1024 * 1024;
/** The same of all senders together. */
const creditBytesTotalDefault = 256 * 1024 * 1024;

const settings = z.strictObject({
  bind: z.string().default("127.0.0.1").meta({ description: "Address to listen on." }),
  port: z.coerce
    .number()
    .int()
    .min(0)
    .max(65_535)
    .default(9780)
    .meta({ description: "Port to listen on; 0 = any free one." }),
  creditBytes: size()
    .default(creditBytesDefault)
    .meta({ description: "Bytes a sender may have unanswered." }),
  creditBytesTotal: size().default(creditBytesTotalDefault).meta({
    description: "The same of all senders together; when it is granted, further senders get 1 MiB each.",
  }),
  insecure: z
    .stringbool()
    .or(z.boolean())
    .default(false)
    .meta({ description: "Allow binding beyond loopback without TLS." }),
  certificateFile: z.string().optional().meta({ description: "PEM file of the certificate: TLS." }),
  keyFile: z.string().optional().meta({ description: "PEM file of its key." }),
  clientAuthorityFile: z
    .string()
    .optional()
    .meta({ description: "PEM file: senders must show a certificate of this authority." }),
});

export const ingestConfig = settings
  .refine((config) => (config.certificateFile === undefined) === (config.keyFile === undefined), {
    path: ["keyFile"],
    message: "certificateFile and keyFile go together",
  })
  .refine((config) => config.clientAuthorityFile === undefined || config.certificateFile !== undefined, {
    path: ["clientAuthorityFile"],
    message: "senders show certificates over TLS only: name certificateFile and keyFile too",
  });

export type IngestConfig = z.output<typeof ingestConfig>;
