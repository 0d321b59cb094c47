variable "name" {
  description = "Name of the role, and start of the policies' names."
  type        = string
  default     = "job-access"
}

variable "path" {
  description = "JOB_ACCESS_PATH: the IAM path of all users that the service creates."
  type        = string
  default     = "/job-access/"
}

variable "user_prefix" {
  description = "JOB_ACCESS_USER_PREFIX: the start of the names of all users and policies that the service creates."
  type        = string
  default     = "ja"
}

variable "buckets" {
  description = "The buckets that jobs may get access to, as in JOB_ACCESS_ALLOWED_BUCKETS; a `*` only at the end. Empty: any bucket."
  type        = list(string)
  default     = []
}

variable "kms_keys" {
  description = "ARNs of the KMS keys whose use jobs may get, as in JOB_ACCESS_ALLOWED_KMS_KEYS. Empty: any key."
  type        = list(string)
  default     = []
}

variable "session_roles" {
  description = "Roles of JOB_ACCESS_PROFILES, if any. The permissions boundary of a revocable one must be boundary_arn."
  type        = list(object({ arn = string, revocable = bool }))
  default     = []
}

variable "oidc_provider_arn" {
  description = "IAM OIDC provider of the EKS cluster that the service runs in."
  type        = string
  default     = null
}

variable "namespace" {
  description = "Namespace of the service account. Used only with oidc_provider_arn."
  type        = string
  default     = "job-access"
}

variable "service_account" {
  description = "Name of the service account. Used only with oidc_provider_arn."
  type        = string
  default     = "job-access"
}

variable "trust" {
  description = "Trust policy of the role, as JSON. Give it when the service does not run in EKS."
  type        = string
  default     = null
}

variable "tags" {
  type    = map(string)
  default = {}
}
